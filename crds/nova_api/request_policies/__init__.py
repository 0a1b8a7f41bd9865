"""The policies that look at what a request says, one module each: who sends it, and what it asks for."""
