-- The other agents of the cluster, as the registry told of them last. `subnets` is JSON: [[OVERLAY, SUBNET], ...].
CREATE TABLE peer (
    agent_ip TEXT PRIMARY KEY,
    vtep     TEXT NOT NULL,
    subnets  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
