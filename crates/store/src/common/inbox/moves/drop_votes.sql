-- Of the first `?3` votes of `?1`, deletes those in polls in which `?2` has voted.
DELETE FROM poll_votes
WHERE (channel_key, poll, voter) IN (
    SELECT channel_key, poll, voter FROM poll_votes WHERE voter = ?1 ORDER BY channel_key, poll LIMIT ?3
)
AND EXISTS (
    SELECT 1 FROM poll_votes v WHERE v.channel_key = poll_votes.channel_key AND v.poll = poll_votes.poll AND v.voter = ?2
)
