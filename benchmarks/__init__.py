"""Measurements that no test asserts: speed, memory, recall, and equal histories before and after a change."""
