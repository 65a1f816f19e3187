"""The same task in several frameworks, and a server that counts what each of them sends."""
