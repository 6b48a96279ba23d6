-- What the user asked for one endpoint alone (driver-opts), as JSON.
ALTER TABLE endpoint ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
