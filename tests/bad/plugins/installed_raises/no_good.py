raise ImportError("needs a compiler")
