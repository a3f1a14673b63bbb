"""What the whole system speaks: values, messages and rules without I/O or third parties."""
