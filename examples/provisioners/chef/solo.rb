# /etc/chef/solo.rb
cookbook_path "/etc/chef/cookbooks"
# Chef's lock is chef-client-running.pid in here.
file_cache_path "/var/chef/cache"
log_location STDOUT
