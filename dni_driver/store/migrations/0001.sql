-- Addresses are kept packed (4 or 16 bytes, network order), so that they sort as numbers do.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE overlay (
    name    TEXT PRIMARY KEY,
    subnet  TEXT,
    prefix  INTEGER,
    subnet6 TEXT,
    prefix6 INTEGER,
    backend TEXT NOT NULL
) STRICT;

CREATE TABLE agent_subnet (
    seq     INTEGER PRIMARY KEY,
    overlay TEXT NOT NULL REFERENCES overlay (name),
    subnet  TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE pool (
    id       TEXT PRIMARY KEY,
    family   INTEGER NOT NULL CHECK (family IN (4, 6)),
    overlay  TEXT REFERENCES overlay (name),
    subnet   TEXT,
    ip_range TEXT,
    uses     INTEGER NOT NULL CHECK (uses >= 0),
    since    REAL NOT NULL,
    trial    INTEGER NOT NULL DEFAULT 0 CHECK (trial IN (0, 1))
) STRICT;

-- Where the search for a never used address of a span goes on: it only moves forward.
CREATE TABLE cursor (
    pool    TEXT NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
    first   BLOB NOT NULL,
    next    BLOB NOT NULL,
    PRIMARY KEY (pool, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE network (
    id         TEXT PRIMARY KEY,
    overlay    TEXT NOT NULL UNIQUE REFERENCES overlay (name),
    name       TEXT,
    gateway    TEXT,
    gateway6   TEXT,
    mtu        INTEGER NOT NULL,
    options    TEXT NOT NULL,
    since      REAL NOT NULL
) STRICT;

CREATE TABLE endpoint (
    id       TEXT PRIMARY KEY,
    network  TEXT NOT NULL REFERENCES network (id),
    mac      TEXT NOT NULL,
    address  TEXT,
    address6 TEXT,
    sandbox  TEXT,
    ifname   TEXT,
    since    REAL NOT NULL
) STRICT;

CREATE INDEX endpoint_by_network ON endpoint (network);

CREATE TABLE address (
    pool      TEXT NOT NULL REFERENCES pool (id),
    address   BLOB NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('claimed', 'bound', 'leaving', 'reserved', 'free')),
    endpoint  TEXT REFERENCES endpoint (id),
    network   TEXT REFERENCES network (id),
    container TEXT,
    since     REAL NOT NULL,
    freed     INTEGER,
    PRIMARY KEY (pool, address),
    CHECK ((state IN ('bound', 'leaving')) = (endpoint IS NOT NULL)),
    CHECK ((state = 'free') = (freed IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX address_by_freed ON address (pool, freed) WHERE freed IS NOT NULL;
CREATE INDEX address_by_endpoint ON address (endpoint) WHERE endpoint IS NOT NULL;
