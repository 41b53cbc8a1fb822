"""Prompts for a trained synthesizer, and its answers back into shards.

    raw_texts       text files, JSONL, Parquet -> raw texts, in order
      |
    prompt_files    texts, and the rounds before -> prompts that fit, and the entries that wait for their pairs
      |             rounds: which texts make a round, and what of the rounds before each gets   (pure but for reading)
      |             prompt_tokens: ids and text of prompts, a batch at a time
      |
    requests        how a prompt is written for who generates, and how their answers are read
      |
    pair_parser     what a model wrote -> its pairs, and what of it is none          (pure)
      |
    answer_files    answers + waiting entries -> a dataset of a collection, which can be cooked, or be continued

Generation itself is another program's: vLLM, or whatever speaks the OpenAI batch format.
"""
