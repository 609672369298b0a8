"""The SQL database: tables, migrations, one Store."""
