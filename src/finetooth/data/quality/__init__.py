"""What a careful engineer would see in the data: rules that look, and operations that clean."""
