"""Training a `VideoLM`: samples, label masks, what is trained, and the run itself."""
