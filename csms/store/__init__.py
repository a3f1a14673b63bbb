"""The only SQL: tables, migrations and one named function per query."""
