"""The web page: Gradio's components over the same files, questions and jobs as the API."""
