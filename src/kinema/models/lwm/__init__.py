"""The Large World Model: VQGAN frames and a LLaMA that reads and writes them, in JAX.

| file | what it holds |
|---|---|
| ``config`` | sizes, by name, JSON or the shapes of a checkpoint |
| ``vqgan``, ``frames`` | frames to token ids and back |
| ``llama``, ``attention``, ``rope`` | the decoder over text and vision tokens |
| ``prompt``, ``tokenizer`` | the layouts the released weights know |
| ``generate``, ``sampling`` | prefill and the compiled decode loop |
| ``mesh`` | axes, partition rules, placement |
| ``stream``, ``unpickle``, ``stored`` | released file formats |
| ``checkpoint``, ``convert`` | what a checkpoint is made of, and ours |
| ``chat``, ``paint`` | answers about frames; frames from words |
"""
