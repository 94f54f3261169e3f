"""Simulation of the rules alone: sagas, steps and their effects, without a transport."""
