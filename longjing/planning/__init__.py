"""Planning: FLOPs, bytes, hours, energy and money, counted beforehand or added up as a run goes."""
