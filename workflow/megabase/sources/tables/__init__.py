"""Published tables of variants with measured effects: a reader each, by column name, to one schema."""
