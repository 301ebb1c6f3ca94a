"""Where rows came from, by the manifests that our own commands leave beside their outputs."""
