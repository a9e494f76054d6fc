"""What happens to answers: their ids, what is kept of them, labels that come later, quality."""
