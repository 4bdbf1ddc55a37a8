-- Who is who in channels: ids that belong to a person, and the codes by which they came to.

-- An id of a channel that belongs to a person, with what its code gave.
create table identity (
  tenant    text not null,
  channel   text not null,
  id        text not null,
  principal text not null,
  roles     text not null check (json_valid(roles)),
  label     text not null,
  origin    text not null check (origin in ('pair', 'own', 'claim')),
  made_by   text not null,
  at        integer not null,
  primary key (tenant, channel, id)
) strict, without rowid;
create index identity_principal on identity (tenant, principal);

-- Codes by their SHA-256. `used_by` is the attempt that used one: the same attempt again is no other.
create table identity_code (
  tenant     text not null,
  hash       text not null,
  purpose    text not null check (purpose in ('pair', 'own', 'claim')),
  principal  text not null,
  roles      text not null check (json_valid(roles)),
  label      text not null,
  made_by    text not null,
  expires_at integer not null,
  used_by    text,
  used_at    integer,
  primary key (tenant, hash),
  check ((used_by is null) = (used_at is null))
) strict, without rowid;
create index identity_code_expires on identity_code (tenant, expires_at);

-- Wrong codes by sender, as long as they count.
create table identity_miss (
  tenant text not null,
  sender text not null,
  key    text not null,
  at     integer not null,
  primary key (tenant, sender, key)
) strict, without rowid;
create index identity_miss_at on identity_miss (tenant, at);

-- What could not be delivered, for whoever looks at channels.
create index outbox_dead on outbox (tenant, channel, updated_at) where state = 'dead';
