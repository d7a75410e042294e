"""What a network costs: parameters and MACs (`complexity`), time and memory (`benchmark`)."""
