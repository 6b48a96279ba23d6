-- Overlays that are being removed in the whole cluster, and the agent that was told to: nothing is begun with them here.
-- `network`: the agent had made a Docker network of it, which goes first, and comes back where the overlay stays.
CREATE TABLE leaving (
    overlay TEXT PRIMARY KEY REFERENCES overlay (name) ON DELETE CASCADE,
    remover TEXT NOT NULL,
    network INTEGER NOT NULL CHECK (network IN (0, 1))
) STRICT;
