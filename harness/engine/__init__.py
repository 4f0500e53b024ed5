"""The only room with torch. Importing the package itself imports none: its modules do, on use."""
