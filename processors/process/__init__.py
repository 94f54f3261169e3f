"""A process plays roles: how they are made, wired together and provisioned."""
