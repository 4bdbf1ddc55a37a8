-- Looking at one conversation's open messages, and finding old mail.
create index inbound_conversation on inbound (tenant, channel, conversation, seq) where state <> 'done';
create index outbox_ended on outbox (updated_at) where state <> 'owed';
