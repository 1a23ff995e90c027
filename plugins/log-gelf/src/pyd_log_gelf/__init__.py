"""Log driver: GELF, the format of Graylog and Logstash."""
