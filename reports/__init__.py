"""Report text: sections, findings read from sentences, phrasing, knowledge and drafts."""
