-- How a channel is linked to its network: what may be shown, and the secrets, sealed with a key that is not in this file.
create table links (
    channel_key integer not null primary key references channels (key),
    -- JSON.
    details     text    not null,
    sealed      blob    not null
) strict;
