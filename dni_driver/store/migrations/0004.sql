-- The IPv4 subnet that an IPv6-only overlay has on this host alone, for engines that make no network without one.
CREATE TABLE local_subnet (
    overlay TEXT PRIMARY KEY REFERENCES overlay (name),
    subnet  TEXT NOT NULL UNIQUE
) STRICT;
