"""Engines: what turns texts into token ids, behind one small protocol (`tokenizer.engine`).

    fastokens   the fastest once it is warm, slow to load, optional; on the tokenizer.json
    splintr     the default: presets from its bundled vocabularies, any other tokenizer from its tokenizer.json
    hf          the reference: Hugging Face tokenizers on the tokenizer.json; what the others are held against

An engine encodes *ordinary* text: no BOS, no EOS, no special token recognised inside the text, no truncation. Every
engine gives the same ids for the same text; `probe` holds a fast one against ids that are known to be right.
"""
