"""Crash safety on real processes: random kills, pauses, restarts and lies, and what must hold."""
