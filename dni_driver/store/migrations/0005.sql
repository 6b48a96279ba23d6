-- The agent IP under which an agent subnet is being given back; no address comes from it any more.
ALTER TABLE agent_subnet ADD COLUMN leaving_as TEXT;

-- Why the agent can lease no more of an overlay: a start that finds no free address need not wait for it.
CREATE TABLE no_room (
    overlay TEXT NOT NULL REFERENCES overlay (name) ON DELETE CASCADE,
    family  INTEGER NOT NULL CHECK (family IN (4, 6)),
    reason  TEXT NOT NULL,
    PRIMARY KEY (overlay, family)
) STRICT, WITHOUT ROWID;

-- The overlays that have had their Docker network on this host: the agent makes none a second time by itself. `made`:
-- the agent made it.
CREATE TABLE networked (
    overlay TEXT PRIMARY KEY REFERENCES overlay (name) ON DELETE CASCADE,
    made    INTEGER NOT NULL CHECK (made IN (0, 1))
) STRICT;
