//! What the program writes, and what it says when something is wrong.
