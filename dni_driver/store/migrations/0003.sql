-- Addresses that a person keeps back, `first` to `last`; they outlive networks and pools. For one container by its
-- name, or for whoever asks for one by itself.
CREATE TABLE reservation (
    overlay   TEXT NOT NULL REFERENCES overlay (name),
    first     BLOB NOT NULL,
    last      BLOB NOT NULL,
    container TEXT,
    since     REAL NOT NULL,
    PRIMARY KEY (overlay, first),
    CHECK (length(first) = length(last) AND first <= last),
    CHECK (container IS NULL OR first = last)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX reservation_by_container ON reservation (overlay, container, length(first))
    WHERE container IS NOT NULL;
