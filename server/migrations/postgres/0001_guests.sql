-- Until there is a release this step is edited in place; afterwards a column comes by `alter table` in a step of its own.
-- CONTRIBUTING.md lists what else a new column of `grants` takes.

-- One row for the whole installation.
create table installation (
    only_row            smallint primary key check (only_row = 1),
    installation_id     bytea  not null,    -- 16 random bytes, part of what every credential is sealed with
    master_key_check    bytea,             -- null until the first keys are made
    revision            bigint not null,    -- moves with every change to clients or keys
    next_client_number  bigint not null,
    issuer              text,               -- `iss` of every token, once it was set
    seen_at             bigint not null default 0, -- the time at which the installation was last served
    time_resets         bigint not null default 0, -- how often that time was set, instead of going on
    events_recorded     boolean not null default false, -- by the server that was started last
    unfinished_copy     boolean not null default false -- this is the beginning of one: nobody is served
);

-- One row that the readiness check changes: when it has, a write has just become durable.
create table probe (
    only_row  smallint primary key check (only_row = 1),
    writes    bigint not null
);

-- Work that one node does for all. Not copied.
create table leases (
    lease  text    primary key,             -- cleaner, deliverer
    node   text    not null,                -- whose it is
    until  bigint  not null                  -- until when nobody else's
);

create table clients (
    client_number  bigint  primary key,
    client_id      text    not null unique,
    confidential   boolean not null,
    disabled       boolean not null,
    created_at     bigint  not null         -- milliseconds since the epoch, as every time here
);

-- What a client has chosen for itself. A name that a newer version wrote is kept, and has no effect in an older one.
create table client_choices (
    client_number  bigint  not null,
    name           text    not null,
    value          text    not null,       -- as in a setting: 30s, true, reissue; a list has spaces between its elements
    primary key (client_number, name)
);

create table api_keys (
    client_number  bigint not null,
    key_id         text   not null,         -- the beginning of the key's text
    hash           bytea  not null,         -- SHA-256 of the key's text
    created_at     bigint not null,
    expires_at     bigint,
    revoked_at     bigint,
    primary key (client_number, key_id)
);

-- Signing and sealing keys, each wrapped by the master key. A key is next, then current, then retiring, as its times say.
create table keys (
    kid          text   primary key,
    use          text   not null,           -- access-token, credential, request-id, tombstone
    algorithm    text   not null,           -- HS256, ES256, EdDSA, RS256, A256GCM-SIV
    created_at   bigint not null,
    usable_at    bigint not null,           -- by then everyone who needs it has it
    current_at   bigint,                    -- since when it signs or seals
    retiring_at  bigint,                    -- since when it only verifies or opens
    lifetime     bigint not null,           -- milliseconds that what it made can live
    sealed       bytea  not null
);

create unique index keys_next on keys (use) where current_at is null;
create unique index keys_current on keys (use) where current_at is not null and retiring_at is null;

create table profiles (
    profile_id     bigint primary key,      -- `sub`
    network_id     bytea  not null,         -- `subn`
    client_number  bigint not null,
    created_at     bigint not null,
    customer       text,                    -- the customer that the guest has become, as the shop says
    linked_at      bigint,                  -- when it said so
    linked_by      bigint,                  -- the client that said so; null after an import
    attributes     text,                    -- what the shop remembers of the guest, as in a token
    version        bigint,                  -- counts the changes of these; null is 0
    seen_at        bigint                   -- when it was last here, as far as no grant says so; null if it never had a token
);

create index profiles_customer on profiles (customer, profile_id) where customer is not null;

-- One row serves a grant for its whole life. No column that a refresh changes is indexed, and every page has room for the
-- row as it will be: a refresh writes no index (a HOT update).
create table grants (
    profile_id         bigint   not null,
    grant_id           bytea    not null,   -- 8 random bytes
    client_number      bigint   not null,
    network_id         bytea    not null,
    challenge          bytea    not null,
    generation         bigint   not null,
    proven             bigint   not null,
    strikes            smallint not null,
    issued_at          bigint   not null,
    advanced_at        bigint   not null,
    expires_at         bigint   not null,
    ends_at            bigint   not null,
    revoked_at         bigint,
    revocation_reason  text,
    version            bigint,              -- that of the guest's row when this was copied from it; null is 0
    customer           text,
    attributes         text,
    primary key (profile_id, grant_id)
) with (fillfactor = 80);

-- The outbox of webhooks: what has become of a guest, inserted by the statement that made it so.
create table events (
    profile_id     bigint  not null,
    event_id       bytea   not null,        -- 16 random bytes
    type           text    not null,        -- guest.linked, guest.unlinked, guest.erased, grant.ended
    at             bigint  not null,
    network_id     bytea   not null,
    customer       text,                    -- whom the guest had become
    client_number  bigint,                 -- the client that asked for it, or whose grant it was
    grant_id       bytea,             -- the grant that has ended
    reason         text,                    -- why, or who did it
    attempts       bigint  not null default 0, -- deliveries that failed
    next_at        bigint,                 -- when the next one is due; null when delivered or dead
    delivered_at   bigint,
    primary key (profile_id, event_id)
);

create index events_at on events (at, event_id);
create index events_next on events (next_at) where next_at is not null;
create index events_dead on events (at, event_id) where next_at is null and delivered_at is null;

-- For every node to follow what ended before its time. A refresh doesn't change that column.
create index grants_revoked on grants (revoked_at) where revoked_at is not null;

-- Access tokens that ended before their time, until they would have expired anyway.
create table revoked_access_tokens (
    token_id    bytea  primary key,         -- `jti`
    revoked_at  bigint not null,
    expires_at  bigint not null
);

create index revoked_access_tokens_revoked on revoked_access_tokens (revoked_at);
create index revoked_access_tokens_expired on revoked_access_tokens (expires_at);

-- Erased guests leave a keyed hash of `sub`, and links that were undone one of `sub` and customer.
create table tombstones (
    hash       bytea  primary key,
    erased_at  bigint not null
);

create index tombstones_erased on tombstones (erased_at);

-- Marks of the journals: all that a node's journal says before one of them is in this database.
create table journal_marks (
    mark        bytea  primary key,
    node        text   not null,
    number      bigint not null,            -- counts up the marks of a node: no clock can spoil their order
    created_at  bigint not null
);
