-- What is asked for a container of CNI beside its addresses, as of Docker's endpoints: JSON.
ALTER TABLE cni_endpoint ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
