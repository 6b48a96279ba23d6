-- Ports of this host that endpoints have, each leading to a port of their container. The address of the host is
-- 0.0.0.0 or :: for all of that family. Endpoints of one container may share a port: either leads to it.
CREATE TABLE port (
    protocol  TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp', 'sctp')),
    host_port INTEGER NOT NULL CHECK (host_port BETWEEN 1 AND 65535),
    host_ip   BLOB NOT NULL CHECK (length(host_ip) IN (4, 16)),
    endpoint  TEXT NOT NULL REFERENCES endpoint (id) ON DELETE CASCADE,
    port      INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    PRIMARY KEY (protocol, host_port, host_ip, endpoint)
) STRICT, WITHOUT ROWID;

CREATE INDEX port_by_endpoint ON port (endpoint);

-- The port that was given last where any would do.
CREATE TABLE port_cursor (
    protocol TEXT PRIMARY KEY CHECK (protocol IN ('tcp', 'udp', 'sctp')),
    last     INTEGER NOT NULL
) STRICT;
