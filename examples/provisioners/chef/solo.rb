cookbook_path '/etc/listener/cookbooks'

# The lock, chef-client-running.pid, is in here. Without this line it is below
# the directory of this file, where the agent does not look for it.
file_cache_path '/var/chef/cache'
