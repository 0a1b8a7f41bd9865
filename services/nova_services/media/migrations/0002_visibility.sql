-- Who may see a file beside its owner: nobody, or everybody who is logged in. What there is already is its owner's alone.
ALTER TABLE media ADD COLUMN visibility text NOT NULL DEFAULT 'private';
ALTER TABLE media ADD CONSTRAINT media_visibility CHECK (visibility IN ('private', 'public')) NOT VALID;
