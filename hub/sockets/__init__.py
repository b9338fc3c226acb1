"""Live connections: the uvicorn protocol beneath them, who is connected here, and how frames get to them."""
