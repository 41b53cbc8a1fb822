"""Outputs shown in a terminal, as JSON, and as a page.

outputs      a path -> its outputs; single rows of them; names of shards
parts        a sequence -> its examples, decoded: context, trained text, special tokens
visible      text -> text with marks for invisible characters and terminal controls
showing      the sequence that was asked for -> Shown; as JSON                    (`cook show`)
texts        the text of a corpus that was asked for -> ShownText
terminal     Shown -> lines, by rich
counts       all sequences -> counts of lengths, and a sample; in one pass        (`cook report`)
plots        counts -> SVG
html_report  counts, plots, samples -> one HTML file
"""
