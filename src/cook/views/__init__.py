"""What is cooked, to look at: in a terminal, as JSON, and as a page.

outputs      a path -> the datasets and mixes that are there; one sequence of them; the shards' names
parts        a sequence -> its examples, and their context, trained text and special tokens, decoded
visible      text -> text in which nothing is invisible and nothing commands a terminal
showing      which sequence is asked for -> Shown; as JSON                        (`cook show`)
terminal     Shown -> lines, by rich
counts       all sequences -> counts of lengths, and a sample; in one pass        (`cook report`)
plots        counts -> SVG
html_report  all that -> one HTML file
"""
