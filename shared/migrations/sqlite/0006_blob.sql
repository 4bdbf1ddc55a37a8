-- Bytes by their SHA-256: pictures that came with tasks and files that they wrote, at most 8 MiB each.
-- Never read with a task, so their table is one of its own.
create table blob (
  tenant text not null,
  hash   text not null,
  mime   text not null,
  bytes  blob not null check (length(bytes) <= 8388608),
  at     integer not null,
  primary key (tenant, hash)
) strict;

-- Which tasks refer to which bytes. Written with the bytes, so there are never any that nobody wants;
-- both go with the task's journal.
create table blob_use (
  task   text not null,
  hash   text not null,
  tenant text not null,
  primary key (task, hash)
) strict, without rowid;
create index blob_used on blob_use (tenant, hash);
