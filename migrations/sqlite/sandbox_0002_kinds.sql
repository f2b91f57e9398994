-- As for messages. `contact` has always held the whole payload; newer rows leave `vcard` empty.
ALTER TABLE phone ADD COLUMN kind TEXT;
ALTER TABLE phone ADD COLUMN rendition TEXT;
