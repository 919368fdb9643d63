"""The paper's tables with its protocols: `ragx eval paper`. One file a table; docs/paper.md says what each needs."""
