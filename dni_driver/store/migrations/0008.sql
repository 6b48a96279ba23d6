-- The Mesos half: overlays that containers of CNI may be on, and the endpoints that dni-cni gave them. A Mesos half's
-- addresses belong to such endpoints, so `address` is written anew with who has one beside Docker's endpoints.
CREATE TABLE cni_network (
    overlay TEXT PRIMARY KEY REFERENCES overlay (name),
    mtu     INTEGER NOT NULL,
    since   REAL NOT NULL
) STRICT;

CREATE TABLE cni_endpoint (
    id        TEXT PRIMARY KEY,
    overlay   TEXT NOT NULL REFERENCES cni_network (overlay),
    container TEXT NOT NULL,
    ifname    TEXT NOT NULL,
    sandbox   TEXT NOT NULL,
    mac       TEXT NOT NULL,
    address   TEXT,
    address6  TEXT,
    since     REAL NOT NULL,
    UNIQUE (overlay, container, ifname)
) STRICT;

-- What was written where, by its digest: a file that differs is somebody else's. Two of one path while it is replaced.
CREATE TABLE cni_file (
    path   TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (path, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE address_anew (
    pool         TEXT NOT NULL REFERENCES pool (id),
    address      BLOB NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('claimed', 'bound', 'leaving', 'reserved', 'free')),
    endpoint     TEXT REFERENCES endpoint (id),
    cni_endpoint TEXT REFERENCES cni_endpoint (id),
    network      TEXT REFERENCES network (id),
    container    TEXT,
    since        REAL NOT NULL,
    freed        INTEGER,
    PRIMARY KEY (pool, address),
    CHECK (endpoint IS NULL OR cni_endpoint IS NULL),
    CHECK ((state IN ('bound', 'leaving')) = (endpoint IS NOT NULL OR cni_endpoint IS NOT NULL)),
    CHECK ((state = 'free') = (freed IS NOT NULL))
) STRICT, WITHOUT ROWID;

INSERT INTO address_anew (pool, address, state, endpoint, network, container, since, freed)
SELECT pool, address, state, endpoint, network, container, since, freed FROM address;
DROP TABLE address;
ALTER TABLE address_anew RENAME TO address;

CREATE INDEX address_by_freed ON address (pool, freed) WHERE freed IS NOT NULL;
CREATE INDEX address_by_endpoint ON address (endpoint) WHERE endpoint IS NOT NULL;
CREATE INDEX address_by_cni_endpoint ON address (cni_endpoint) WHERE cni_endpoint IS NOT NULL;
