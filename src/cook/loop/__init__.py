"""The rest of the loop: a trained synthesizer's prompts, and its answers back into shards.

    raw        text files, JSONL, Parquet -> raw texts, in order
      |
    prompts    texts, and the rounds before -> prompts that fit, and the entries that wait for their pairs
      |        rounds: which texts make a round, and what of the rounds before each gets   (pure but for reading)
      |        build: ids and text of prompts, a batch at a time
      |
    requests   how a prompt is written for who generates, and how their answers are read
      |
    pairs      what a model wrote -> its pairs, and what of it is none          (pure)
      |
    parsing    answers + waiting entries -> a data set of a collection, which can be cooked, or be continued

Generation itself is another program's: vLLM, or whatever speaks the OpenAI batch format.
"""
