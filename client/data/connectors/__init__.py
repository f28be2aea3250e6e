"""Where rows can be: one connector for each kind of place, all behind `interface.Connector`."""
