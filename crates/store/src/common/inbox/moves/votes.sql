-- Gives the first `?3` votes of `?1` to `?2`, who has not voted in their polls.
UPDATE poll_votes SET voter = ?2
WHERE (channel_key, poll, voter) IN (
    SELECT channel_key, poll, voter FROM poll_votes WHERE voter = ?1 ORDER BY channel_key, poll LIMIT ?3
)
AND NOT EXISTS (
    SELECT 1 FROM poll_votes v WHERE v.channel_key = poll_votes.channel_key AND v.poll = poll_votes.poll AND v.voter = ?2
)
