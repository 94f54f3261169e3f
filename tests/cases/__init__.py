"""Cases: small inputs with what is right, as tables; the project's own, and those of a folder named by CASES."""
