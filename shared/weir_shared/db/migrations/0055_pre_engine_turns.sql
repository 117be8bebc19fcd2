-- How full the context was at a turn's last question to its model; turns before this one are not known.
alter table turns add column context_tokens integer not null default 0;
-- How many tokens of its model's a token of our estimate was, as the turn learnt it; null for those that did not end.
alter table turns add column token_scale real;

-- What a turn told besides what was said and done: what a person was asked, and what was shown to them. Readers who
-- come when no memory holds the turn are told it again.
alter table messages drop constraint messages_event_type_check;
alter table messages add constraint messages_event_type_check check (
    event_type in (
        'user_message', 'assistant_message', 'tool_call', 'tool_result', 'reasoning', 'system', 'confirmation',
        'structured_output'
    )
) not valid;
