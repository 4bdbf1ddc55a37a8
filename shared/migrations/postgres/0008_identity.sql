-- Who is who in channels: ids that belong to a person, and the codes by which they came to.

-- An id of a channel that belongs to a person, with what its code gave.
create table identity (
  tenant    text not null,
  channel   text not null,
  id        text not null,
  principal text not null,
  roles     json not null,
  label     text not null,
  origin    text not null check (origin in ('pair', 'own', 'claim')),
  made_by   text not null,
  at        bigint not null,
  primary key (tenant, channel, id)
);
create index identity_principal on identity (tenant, principal);

-- Codes by their SHA-256. `used_by` is the attempt that used one: the same attempt again is no other.
create table identity_code (
  tenant     text not null,
  hash       text not null,
  purpose    text not null check (purpose in ('pair', 'own', 'claim')),
  principal  text not null,
  roles      json not null,
  label      text not null,
  made_by    text not null,
  expires_at bigint not null,
  used_by    text,
  used_at    bigint,
  primary key (tenant, hash),
  check ((used_by is null) = (used_at is null))
);
create index identity_code_expires on identity_code (tenant, expires_at);

-- Wrong codes by sender, as long as they count.
create table identity_miss (
  tenant text not null,
  sender text not null,
  key    text not null,
  at     bigint not null,
  primary key (tenant, sender, key)
);
create index identity_miss_at on identity_miss (tenant, at);

-- What could not be delivered, for whoever looks at channels.
create index outbox_dead on outbox (tenant, channel, updated_at) where state = 'dead';

-- Only the engine works on them; requests of a tenant come to it by the tenant's name in every query.
grant select, insert, update, delete on identity, identity_code, identity_miss to majordomo_engine;
do $$
declare one text;
begin
  foreach one in array array['identity', 'identity_code', 'identity_miss'] loop
    execute format('alter table %I enable row level security', one);
    execute format('alter table %I force row level security', one);
    execute format('create policy engine on %I to majordomo_engine using (true) with check (true)', one);
  end loop;
end $$;
