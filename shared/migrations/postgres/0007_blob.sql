-- Bytes by their SHA-256: pictures that came with tasks and files that they wrote, at most 8 MiB each.
-- Never read with a task, so their table is one of its own.
create table blob (
  tenant text not null,
  hash   text not null,
  mime   text not null,
  bytes  bytea not null check (octet_length(bytes) <= 8388608),
  at     bigint not null,
  primary key (tenant, hash)
);
-- Pictures do not pack any further.
alter table blob alter column bytes set storage external;

-- Which tasks refer to which bytes. Written with the bytes, so there are never any that nobody wants;
-- both go with the task's journal.
create table blob_use (
  task   uuid not null,
  hash   text not null,
  tenant text not null,
  primary key (task, hash)
);
create index blob_used on blob_use (tenant, hash);

grant select, insert, delete on blob, blob_use to majordomo_engine;
grant select on blob, blob_use to majordomo_app;
do $$
declare one text;
begin
  foreach one in array array['blob', 'blob_use'] loop
    execute format('alter table %I enable row level security', one);
    execute format('alter table %I force row level security', one);
    execute format('create policy engine on %I to majordomo_engine using (true) with check (true)', one);
    execute format('create policy app on %I to majordomo_app
                    using (tenant = (select current_setting(''majordomo.tenant'', true)))', one);
  end loop;
end $$;
