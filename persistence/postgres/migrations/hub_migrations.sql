create table if not exists hub_migrations (
  name text not null,
  applied_at timestamptz not null default now(),
  checksum text not null,
  constraint hub_migrations_pkey primary key (name)
);
comment on table hub_migrations is 'Which schema migrations this database has. Kept by hub migrate.';
comment on column hub_migrations.name is 'The migration''s name.';
comment on column hub_migrations.applied_at is 'When it was applied.';
comment on column hub_migrations.checksum is 'SHA-256 of the SQL that was applied.';
